"""Trains a tiny net with Chainer's Trainer, resumes it, and says how it went: runs in the job."""

import json
import os
import sys

import chainer
import chainer.functions as F
import chainer.links as L
import numpy
from chainer import training
from chainer.training import extensions

out = sys.argv[1]
numpy.random.seed(0)
x = numpy.random.rand(200, 4).astype(numpy.float32)
t = (x.sum(axis=1) > 2).astype(numpy.int32)


class Net(chainer.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.hidden = L.Linear(4, 16)
            self.out = L.Linear(16, 2)

    def __call__(self, x):
        return self.out(F.relu(self.hidden(x)))


def trainer(epochs):
    model = L.Classifier(Net())
    optimizer = chainer.optimizers.Adam(alpha=0.02)
    optimizer.setup(model)
    batches = chainer.iterators.SerialIterator(chainer.datasets.TupleDataset(x, t), 20)
    made = training.Trainer(
        training.updaters.StandardUpdater(batches, optimizer), (epochs, "epoch"), out=out
    )
    made.extend(extensions.LogReport())
    made.extend(extensions.snapshot(filename="snapshot"), trigger=(epochs, "epoch"))
    if extensions.PlotReport.available():
        made.extend(extensions.PlotReport(["main/loss"], "epoch", file_name="loss.png"))
    return made


trainer(4).run()
resumed = trainer(8)
chainer.serializers.load_npz(os.path.join(out, "snapshot"), resumed)
resumed.run()
chainer.serializers.save_npz(os.path.join(out, "empty"), L.Linear(None, 3))
chainer.serializers.load_npz(os.path.join(out, "empty"), L.Linear(None, 3))  # holds a None
padded = F.pad_sequence([numpy.ones(n, numpy.uint8) for n in (1, 2)], padding=-1)
scores = chainer.Variable(numpy.zeros((2, 3), numpy.float32))
loss = F.softmax_cross_entropy(scores, numpy.array([0, 1], numpy.int32))
loss.backward()
clipped = F.clip(numpy.full((), 3, numpy.float32), 0.0, 1.0)
types = [loss.dtype, scores.grad.dtype, clipped.dtype]
images = F.resize_images(numpy.zeros((1, 1, 2, 2), numpy.float32), (4, 4))
with open(os.path.join(out, "log")) as log:
    losses = [row["main/loss"] for row in json.load(log)]
print(
    json.dumps(
        {
            "chainer": chainer.__version__,
            "numpy": numpy.__version__,
            "prefix": sys.prefix,
            "losses": losses,
            "padded": padded.array.tolist(),
            "types": [str(one) for one in types],
            "resized": images.shape,
            "files": sorted(os.listdir(out)),
        }
    )
)
