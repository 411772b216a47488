"""What the server withstands: crowds, hours, nonsense and kills. See README.md in the folder above."""
