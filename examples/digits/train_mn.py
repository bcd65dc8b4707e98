"""The training of `train.py` by several processes: ChainerMN, as it was written in 2018.

Nothing in here knows of Rechain. By hand: `mpiexec -n 2 python train_mn.py`.
"""

import argparse

import chainer
import chainer.links as L
import chainermn
import numpy as np
from chainer import training
from chainer.training import extensions
from train import ConvNet, load_dataset


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batchsize", "-b", type=int, default=16, help="of each process")
    parser.add_argument("--epoch", "-e", type=int, default=15)
    parser.add_argument("--communicator", default="naive")
    parser.add_argument("--out", "-o", default="result")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    comm = chainermn.create_communicator(args.communicator)
    if comm.rank == 0:
        print("{} processes".format(comm.size))
    np.random.seed(args.seed)
    train, test = load_dataset(args.seed) if comm.rank == 0 else (None, None)
    train = chainermn.scatter_dataset(train, comm, shuffle=True, seed=args.seed)
    test = chainermn.scatter_dataset(test, comm)

    model = L.Classifier(ConvNet())
    optimizer = chainermn.create_multi_node_optimizer(chainer.optimizers.Adam(), comm)
    optimizer.setup(model)

    train_iter = chainer.iterators.SerialIterator(train, args.batchsize)
    test_iter = chainer.iterators.SerialIterator(test, 99, repeat=False, shuffle=False)
    updater = training.StandardUpdater(train_iter, optimizer)
    trainer = training.Trainer(updater, (args.epoch, "epoch"), out=args.out)
    evaluator = extensions.Evaluator(test_iter, model)
    trainer.extend(chainermn.create_multi_node_evaluator(evaluator, comm))
    if comm.rank == 0:
        trainer.extend(extensions.dump_graph("main/loss"))
        trainer.extend(extensions.LogReport())
        trainer.extend(
            extensions.PrintReport(
                [
                    "epoch",
                    "main/loss",
                    "validation/main/loss",
                    "main/accuracy",
                    "validation/main/accuracy",
                    "elapsed_time",
                ]
            )
        )
    trainer.run()
    if comm.rank == 0:
        chainer.serializers.save_npz("{}/model.npz".format(args.out), model)


if __name__ == "__main__":
    main()
