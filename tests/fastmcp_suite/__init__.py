"""FastMCP's own tests of tasks, on Taskmill and on docket side by side. `scripts/fastmcp-suite` runs this."""
