"""What MALICE Aux knows of a place besides its images: terrain, angles of sun and view, weather."""
