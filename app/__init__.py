"""The frame of the web page: navigation, theme, charts, widgets, session."""
