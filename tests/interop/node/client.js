// A transport node in JavaScript: pushes, predicts, streams, and reads an error's details, over the stock gRPC library.
//
//   PROTO=path/of/protos RPC_PROTO=path/of/google/rpc/s/parent node client.js 127.0.0.1:50051
//
// Prints one JSON object with what came back.
"use strict";

const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const LINK = "interop/node-1";
const MINUTE_MS = 60_000;
const options = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true, includeDirs: [process.env.PROTO, process.env.RPC_PROTO] };
const api = grpc.loadPackageDefinition(loader.loadSync("pba/v1/prediction_service.proto", options)).pba.v1;
const details = loader.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"], options);

const client = new api.PredictionService(process.argv[2], grpc.credentials.createInsecure());
const deadline = () => new Date(Date.now() + 10_000);

const timestamp = (ms) => ({ seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 });

// The minutes before now, oldest first, as rows.
function rows(count, now) {
  return Array.from({ length: count }, (_, i) => ({
    link_id: LINK,
    measured_at: timestamp(now - (count - 1 - i) * MINUTE_MS),
    bandwidth_mbps: 900 + (i % 5),
    latency_ms: 12.5,
    packet_loss_ratio: 0,
  }));
}

function unary(method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, { deadline: deadline() }, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// google.rpc.Status travels beside the status, packed in the trailing metadata.
function readDetails(error) {
  const [packed] = error.metadata.get("grpc-status-details-bin");
  const status = details["google.rpc.Status"].deserialize(packed);
  return Object.fromEntries(
    status.details.map((any) => {
      const name = any.type_url.split("/").pop();
      return [name, details[name].deserialize(any.value)];
    }),
  );
}

async function failure(method, request) {
  try {
    await unary(method, request);
    return null;
  } catch (error) {
    return { code: error.code, message: error.details, details: readDetails(error) };
  }
}

async function predictWhenReady() {
  for (;;) {
    try {
      return (await unary("Predict", { link_id: LINK })).prediction;
    } catch (error) {
      // The samples are stored; their prediction follows a moment later.
      if (error.code !== grpc.status.FAILED_PRECONDITION || Date.now() > started + 10_000) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

// Follows the link until its prediction knows a sample measured at `until`.
function follow(until) {
  return new Promise((resolve, reject) => {
    const seen = [];
    const stream = client.StreamPredictions({ selector: { link_ids: [LINK] } }, { deadline: deadline() });
    stream.on("data", (message) => {
      for (const prediction of message.predictions) {
        const made = prediction.made_at.seconds * 1000 + Math.round(prediction.made_at.nanos / 1e6);
        seen.push(made);
        if (seen.length === 1) streamSamples(until).catch(reject);
        if (made === until) stream.cancel();
      }
    });
    stream.on("error", (error) => (error.code === grpc.status.CANCELLED ? resolve(seen) : reject(error)));
    stream.on("end", () => resolve(seen));
  });
}

// Pushes one sample over the push stream and waits for its acknowledgement.
let acknowledged = null;
function streamSamples(at) {
  return new Promise((resolve, reject) => {
    const stream = client.StreamSamples({ deadline: deadline() });
    stream.on("data", (answer) => {
      acknowledged = { sequence: answer.sequence, stored: answer.stored };
      stream.end();
    });
    stream.on("error", reject);
    stream.on("end", resolve);
    stream.write({ sequence: 7, samples: [{ link_id: LINK, measured_at: timestamp(at), bandwidth_mbps: 850, latency_ms: 14 }] });
  });
}

let started;
async function main() {
  started = Date.now();
  const before = started - MINUTE_MS;
  const samples = rows(30, before);
  const first = await unary("PushSamples", { samples });
  const again = await unary("PushSamples", { samples });
  const mixed = await unary("PushSamples", { samples: [samples[0], { ...samples[1], packet_loss_ratio: 35 }] });
  const prediction = await predictWhenReady();
  const seen = await follow(started);
  const history = [];
  for await (const part of client.GetHistory({ link_id: LINK }, { deadline: deadline() })) history.push(...part.samples);
  const result = {
    first,
    again,
    mixed,
    prediction,
    seen_first: seen[0],
    seen_last: seen.at(-1),
    before,
    started,
    acknowledged,
    history: history.length,
    parameters: (await unary("GetOptimalParameters", { link_id: LINK, current_streams: 4, congestion_control: "CONGESTION_CONTROL_BBR" })),
    unknown: await failure("Predict", { link_id: "interop/nowhere" }),
    invalid: await failure("PushSamples", { samples: [{ ...samples[0], packet_loss_ratio: -1 }] }),
  };
  console.log(JSON.stringify(result));
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
