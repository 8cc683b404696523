"""What every service is made with: settings, a server with its interceptors, errors, paging. It imports no service."""
