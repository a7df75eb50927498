"""Images that nobody took: drawn defects, embedded textures, natural photographs."""
