"""A ChainerMN training of some seconds on made data: the same work every time."""

import chainer
import chainer.functions as F
import chainer.links as L
import chainermn
import numpy as np
from chainer import training
from chainer.training import extensions


class Net(chainer.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.first = L.Linear(784, 300)
            self.second = L.Linear(300, 10)

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def main():
    comm = chainermn.create_communicator("naive")
    random = np.random.RandomState(0)
    dataset = None
    if comm.rank == 0:
        images = random.rand(4000, 784).astype(np.float32)
        labels = random.randint(10, size=4000).astype(np.int32)
        dataset = chainer.datasets.TupleDataset(images, labels)
    dataset = chainermn.scatter_dataset(dataset, comm, shuffle=True, seed=0)
    model = L.Classifier(Net())
    optimizer = chainermn.create_multi_node_optimizer(chainer.optimizers.Adam(), comm)
    optimizer.setup(model)
    iterator = chainer.iterators.SerialIterator(dataset, 50)
    updater = training.StandardUpdater(iterator, optimizer)
    trainer = training.Trainer(updater, (1500, "iteration"), out="result")
    if comm.rank == 0:
        trainer.extend(extensions.LogReport(trigger=(100, "iteration")))
    trainer.run()


main()
