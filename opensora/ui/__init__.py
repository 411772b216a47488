"""The page: layout, handlers and looks. The only package besides app.py that imports gradio."""
