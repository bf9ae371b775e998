"""What tests share: guards, servers, recordings, models."""
