/* expect-file: header */
