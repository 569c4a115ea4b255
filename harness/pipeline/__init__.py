"""The main job: the stages of a run, their order, and what they made as one record."""
