"""The server beside the page: REST, MCP, metrics, health, logins; knows jobs and no gradio."""
