"""What a report gathers while a corpus streams by: counted in parts, merged, and kept on disk."""
