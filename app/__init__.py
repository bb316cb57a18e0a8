"""The frame of the web page: navigation, theme, figures, widgets, session."""
