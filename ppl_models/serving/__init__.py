"""Many small requests of one fit, by a process that stays: lines of JSON, or HTTP.

    answers.py    rows in, rows out, where a row that is wrong does not stop the others
    lines.py      `ppl predict RUN - --stream`
    app.py        `ppl serve RUN`
    page.py       what a service says of itself: OpenAPI, and a page for people

Rows are data: nothing of a request is executed, kept, or taken for the name of a file.
"""
