"""The pictures of the report: small panels as SVG, one kind a file."""
