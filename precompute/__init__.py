"""The offline command line: everything that is computed once, before a picture is attributed."""
