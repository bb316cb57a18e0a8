"""What runs say side by side: metrics, points, tables, the verdict; for the page, the command line and scripts."""
