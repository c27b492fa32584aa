import sys

from faults.soak.soak import main

sys.exit(main())
