"""Reports for AI agents: a Model Context Protocol server, on stdio and over HTTP. Read-only."""
