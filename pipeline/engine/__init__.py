"""Who runs the stages: `local` in one process, `ray` on actors. Only here is ray imported."""
