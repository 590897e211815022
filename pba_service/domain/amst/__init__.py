"""From what is known of a link to how AMST should send over it: pure functions over a stated model of TCP.

`tcp` is the model, `conditions` what is known of a link, `optimizer` the parameters for it, `plan` when to change over.
"""
