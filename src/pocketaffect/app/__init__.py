"""The web app: live affect in the browser, songs to match, and the user study."""
