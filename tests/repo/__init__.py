"""Lists kept honest: locks, layout, links, imports."""
