"""Several processes that serve one port: started, watched, restarted, measured and stopped as one service.

    supervisor (`run`)           embedded server, metrics endpoint, ports file, history export
      ├─ worker 0 (`child`)      serves; goes through all links, reads the history file
      ├─ worker 1                serves
      └─ ...

Processes are spawned and share nothing but Redis: any of them serves any link. The kernel spreads
connections over them.
"""
