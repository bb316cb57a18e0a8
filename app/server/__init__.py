"""What stands between a browser and the pages: which requests are answered, to whom and with what, and downloads."""
