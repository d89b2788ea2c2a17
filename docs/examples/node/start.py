from flask import Flask, request
from tasks import export

app = Flask(__name__)


@app.post("/export")
def start():
    return {"task_id": export.delay(request.json["user_id"], request.json["name"]).id}, 202
