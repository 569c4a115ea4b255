"""Data of one's own: each part of a world from a list of sources, in the formats of the field.

`source` says where rows come from, `files` reads them, `forms` makes values of them, `parts` are the world's, and
`world` writes the folder. Adding a data set is a file in conf/sources; adding a format of files a line in `files`.
"""
