"""The embedded demo: a generated corpus of sentence pairs and two tiny encoders pretrained on it."""
