"""What plugins read with: files, pages, counters, processes."""
