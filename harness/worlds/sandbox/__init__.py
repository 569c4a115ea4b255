"""A small synthetic world, written to the same files as real data.

Everything is invented and harmless. A request is "disallowed" because the world's council banned
its topic, which a model can know only from the text it was pre-trained on.
"""
