"""The dashboard: pages, what they need and where their errors go. Nothing here is private to it.

Pages show what any client may read: the hub's frames and the HTTP routes.
"""

from __future__ import annotations

from serving.dashboard.routes import mount

__all__ = ["mount"]
