"""From names to decoded clips: discover, index, plan, decode."""
