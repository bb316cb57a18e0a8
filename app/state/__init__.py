"""What a visitor has chosen: session, URL, widget state. The only place that touches st.session_state."""
