"""Pure renderers: from domain terms to Kubernetes objects as plain data."""
