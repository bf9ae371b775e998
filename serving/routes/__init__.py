"""Routes, by what they give. Each module makes a router of `serving.parts.Parts`."""
