"""Programs, one file a kind of finding. Each function draws one program and says what a report must hold for it."""
