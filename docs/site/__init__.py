"""The documentation site: pages as checks and builder see them (`python -m docs.site`)."""
