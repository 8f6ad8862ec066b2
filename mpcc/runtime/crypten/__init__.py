"""The parties of mpcc's engine as CrypTen parties. With `crypten_stock`, the only folders that import CrypTen."""
