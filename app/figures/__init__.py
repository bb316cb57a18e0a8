"""Charts: pure functions from arrays to plotly figures. Nothing here imports streamlit."""
