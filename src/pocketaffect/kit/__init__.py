"""The Swift package that brings a model into an app: templates, and what Python writes beside them."""
