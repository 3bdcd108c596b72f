"""The server's home: systemd, an OS user for each app, the system's nginx."""
