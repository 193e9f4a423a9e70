"""What is seen of a snapshot: columns, filters, and the page that a screen or an export shows. Pure."""
