"""The results page, the site, the generated tables and the reference."""
