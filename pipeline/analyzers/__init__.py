"""What looks at frames: `base` holds the protocol, `registry` builds members from a config."""
