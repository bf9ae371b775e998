"""Who writes which symbol: heartbeat, leases with fencing tokens, and the one publisher."""
