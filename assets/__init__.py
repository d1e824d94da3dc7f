"""The bundled assets."""
