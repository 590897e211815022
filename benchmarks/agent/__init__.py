"""How well the node's agent measures, what it costs, and what the closed loop gains."""
