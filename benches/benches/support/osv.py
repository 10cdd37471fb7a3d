"""What pip-audit asks of OSV, answered on this machine: osv.py PyPI.zip prints the address and serves until it is
killed.

Each question is one package and version; the answer has the records that list the version.
"""

import http.server
import json
import re
import sys
import zipfile

archive = zipfile.ZipFile(sys.argv[1])
known = {}
for name in archive.namelist():
    record = json.loads(archive.read(name))
    for date in ["published", "modified", "withdrawn"]:
        if record.get(date):
            # The form that OSV itself answers in.
            record[date] = record[date][:19].replace(" ", "T") + "Z"
    for one in record.get("affected") or []:
        package = re.sub("[-_.]+", "-", one.get("package", {}).get("name", "")).lower()
        for version in one.get("versions") or []:
            known.setdefault((package, version), []).append(record)


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body go out as one: apart, each answer would wait for an acknowledgement.
    wbufsize = 1 << 20

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        package = re.sub("[-_.]+", "-", asked["package"]["name"]).lower()
        found = known.get((package, asked["version"]), [])
        answer = json.dumps({"vulns": found} if found else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
print(f"http://127.0.0.1:{server.server_port}/v1/query", flush=True)
server.serve_forever()
