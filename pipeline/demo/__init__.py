"""The demo world: videos with exact ground truth, and two small models trained on them."""
