"""Each benchmark says what it does to whoever asks, without root and without anything built."""

import glob
import os
import subprocess
import sys
import unittest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


class Help(unittest.TestCase):
    def test_every_script_tells_what_it_does(self):
        scripts = []
        for path in sorted(glob.glob(os.path.join(TOP, "bench", "*"))):
            if not os.path.isfile(path) or "." in os.path.basename(path):
                continue
            with open(path, errors="replace") as text:
                if "python3" not in text.readline():
                    continue
            scripts.append(path)
            done = subprocess.run([sys.executable, "-B", path, "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), os.path.basename(path))
            self.assertIn(os.path.basename(path), done.stdout)
        self.assertGreater(len(scripts), 5)


if __name__ == "__main__":
    unittest.main()
