// As much of a browser as the page needs, to use it without one; prints what it shows after each step.

class Element {
  constructor(tag) {
    Object.assign(this, { tagName: tag.toUpperCase(), attributes: {}, children: [], listeners: {}, dataset: {}, textContent: "" });
    this.classList = { toggle() {} };
  }
  setAttribute(name, value) { this.attributes[name] = String(value); if (name === "value") this.value = String(value); }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; if (!document.body.contains(document.activeElement)) document.activeElement = document.body; }
  contains(other) { return other === this || this.children.some((child) => child instanceof Element && child.contains(other)); }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  querySelector() { return null; }
  find(tag) { return this.tagName === tag ? this : this.children.reduce((found, child) => found ?? (child instanceof Element ? child.find(tag) : null), null); }
  focus() { document.activeElement = this; }
  blur() { document.activeElement = document.body; }
}

const byId = { main: new Element("main"), state: new Element("p"), token: new Element("form") };
const body = new Element("body");
body.append(...Object.values(byId));
globalThis.document = {
  body, activeElement: body, hidden: false, getElementById: (id) => byId[id], querySelectorAll: () => [],
  createElement: (tag) => new Element(tag), createElementNS: (_, tag) => new Element(tag),
};
globalThis.location = { hash: "" };
globalThis.sessionStorage = { getItem: () => null };
globalThis.addEventListener = () => {};
let tick = () => {};
globalThis.setInterval = (run) => { tick = run; };
const asked = [];
globalThis.fetch = async (address) => {
  asked.push(address);
  return { ok: true, status: 200, json: async () => ({ links: [], next: asked.length < 3 ? "a" : null }) };
};

const settled = () => new Promise((done) => setTimeout(done, 0));
const shown = () => JSON.stringify([asked.at(-1), byId.main.children.at(-1).children.map((button) => button.children[0]), byId.state.textContent !== ""]);

await import("./console.js");
await settled();
console.log(shown());
const next = byId.main.find("BUTTON");
next.focus();
next.onclick();
await settled();
console.log(shown());
const filter = byId.main.find("INPUT");
filter.focus();
filter.value = "fra";
byId.state.textContent = "";
tick();
await settled();
console.log(shown());
filter.listeners.change();
await settled();
console.log(shown());
