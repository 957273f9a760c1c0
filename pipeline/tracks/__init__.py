"""Identities across a whole video: what is made of its detections once they have landed."""
