"""What the navigation benchmark and its agents are made of: `wayhand bench nav`, `agent` and `nav-video`."""
